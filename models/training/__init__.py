"""From a corpus to a trained model with its card. PyTorch and Matplotlib, the extra `train`, are imported only here.

dataset, augment -> splits -> recipe, architecture -> network, loop -> run -> measure, card, pictures, folder
"""
