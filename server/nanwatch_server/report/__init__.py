"""Reports as one self-contained HTML file, with Plotly inside: they open anywhere, also offline."""
