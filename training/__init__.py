"""Everything that makes a model bundle: data, networks, training, evaluation, export, push."""
