"""Everything that runs when the app serves: no TensorFlow, nothing from training/."""
