"""Experiments: run them, write down what came out and on what, and draw it. Data first, pictures from data."""
