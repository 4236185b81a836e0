complete --keep-order --exclusive --command soramode --arguments "(COMPLETE=fish soramode -- (commandline --current-process --tokenize --cut-at-cursor) (commandline --current-token))"
