"""Run two models on the same inputs and compare them activation by activation."""
