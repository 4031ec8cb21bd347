package main

import (
	"github.com/alecthomas/kong"

	"github.com/marlingen/marlingen/cmd/marlingen/internal/usage"
)

type completionCmd struct {
	Shell string `arg:"" help:"Shell: ${enum}." enum:"bash,zsh,fish"`
}

// Help is shown by marlingen completion --help.
func (*completionCmd) Help() string {
	return `Writes completions of commands, flags and their values for a shell.

  marlingen completion bash > ~/.local/share/bash-completion/completions/marlingen
  marlingen completion zsh > "${fpath[1]}/_marlingen"
  marlingen completion fish > ~/.config/fish/completions/marlingen.fish`
}

func (c *completionCmd) Run(k *kong.Context, a *app) error {
	return usage.Completion(a.out, c.Shell, k.Model)
}

type manCmd struct{}

// Help is shown by marlingen man --help.
func (*manCmd) Help() string {
	return `Writes the man page of this version.

  marlingen man | man -l -
  marlingen man > ~/.local/share/man/man1/marlingen.1`
}

func (*manCmd) Run(k *kong.Context, a *app) error { return usage.Man(a.out, k.Model, exitStatus) }

// exitStatus says what the exit status of the command means.
var exitStatus = [][2]string{
	{"0", "All is well."},
	{"1", "A check failed, or something went wrong; of diff: there is a difference."},
	{"2", "The command line makes no sense; of diff: something went wrong."},
	{"130", "It was interrupted."},
}
