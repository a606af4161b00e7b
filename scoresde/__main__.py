"""``python -m scoresde`` is the ``scoresde`` command."""

from scoresde.cli import main

if __name__ == "__main__":
    main()
