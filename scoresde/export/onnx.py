OnnxFile = to_onnx = None
