"""Charts as inline SVG: pure functions from numbers to markup.

Colours come from the page's style sheet by class, so that charts follow its light and dark themes.
Plots hold no text: it would shrink with them. Their labels are HTML beside them.
"""
