"""Commands to running trainings: who may send what, their life until verified, the audit."""
