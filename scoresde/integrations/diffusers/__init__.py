"""Every solver of the catalogue as a scheduler of diffusers."""
