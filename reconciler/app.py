"""The story, top to bottom: a spec becomes a plan becomes a file becomes a repaired world. (Signatures first; being built.)"""
