"""The exported folder: how it is written, loaded and run; only `write` needs torch.

signature   names and sizes of the outputs
write       the ONNX file, and its parity with the trained network
card        the model card
thresholds  from where on it abstains, and what is strange
model       loads a folder and predicts; predictor: one photo of any kind, from Python
engines     ONNX Runtime and OpenVINO, and which of them is faster
"""
