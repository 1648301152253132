"""Write the model as a program for other runtimes, and run it without torch."""
