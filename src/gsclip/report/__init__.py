"""The report: overlays, curves, figures and the self-contained page that shows a run as it is."""
