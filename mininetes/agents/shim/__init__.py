"""What runs the processes of pods: one small process for a whole lab, apart from the engine."""
