"""The packages that can run one side of a comparison, behind one interface."""
