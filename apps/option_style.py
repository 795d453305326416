"""How options are named, on the command line and wherever its arguments are parsed."""

import tyro

OPTION_STYLE = (tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes)
