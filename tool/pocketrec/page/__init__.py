"""The page of `pocketrec report`: what is in a dataset folder and how good its model is, as one HTML file.

`log_figures` looks at the Parquet, `figures` at everything else; they give numbers, which are the page's own data and what
`--json` prints. `views` says in words what they mean, `charts` works out where the marks of a picture are, and the template
page.html.j2 writes both down. Only `report` writes a file.
"""
