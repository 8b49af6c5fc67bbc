"""The exported folder: how it is written, loaded and run; only `write` needs torch.

signature   its outputs; write: ONNX, parity, the model card
model       loads a folder and answers; engines: ONNX Runtime and OpenVINO
"""
