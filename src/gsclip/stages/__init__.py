"""The stages of ``dvc.yaml``: thin wiring of parameters, files and library functions, one module a stage."""
