"""One step of training on both sides: do the losses and the gradients agree?"""
