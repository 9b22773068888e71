"""Commands to running trainings: who may send what, their life from queued to verified, the audit."""
