"""How well a checkpoint tracks objects: J&F on data sets of videos, by the rules of each."""
