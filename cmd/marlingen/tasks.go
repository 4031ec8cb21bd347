package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/marlingen/marlingen/cmd/marlingen/internal/tasks"
)

type tasksCmd struct {
	Profile string     `help:"Profile to tune for: ${profiles}." default:"glm47"`
	Device  deviceName `help:"Device to tune, as bench --device takes it." default:"metal"`
	Family  []string   `help:"Only these of its families: files of specs/families, without .yaml." placeholder:"NAME"`
	Root    string     `help:"Folder that holds specs/." default:"." type:"existingdir"`
	Out     string     `help:"File to write; - for standard output." default:"tasks/mixed_bpw_fairway_autotune.yaml" type:"path" placeholder:"FILE"`
}

// Help is shown by marlingen tasks --help.
func (*tasksCmd) Help() string {
	return `Writes a plan of tuning tasks for a job runner: a baseline; each candidate, which is one change of one
family's spec; its benchmark, between two of the baseline; and what collects them. Each task has a
folder of its own, and a command that fails unless it was done. Candidates that the generator
refuses are left out.

  marlingen tasks --device metal && marlingen lint-tasks tasks/mixed_bpw_fairway_autotune.yaml`
}

func (c *tasksCmd) Run(a *app) error {
	profile := profileOf(c.Profile)
	if profile == nil {
		return fmt.Errorf("--profile %s: there are %s", c.Profile, profileNames())
	}
	plan, err := tasks.New(tasks.Options{
		Name: "mixed_bpw_fairway_autotune", Root: os.DirFS(c.Root), Bodies: bodies(c.Root),
		Profile: profile, Device: string(c.Device), Target: c.Device.target(), Families: c.Family,
	})
	if err != nil {
		return err
	}
	text, err := plan.Encode()
	if err != nil {
		return err
	}
	if filepath.Base(c.Out) == "-" {
		_, err := a.out.Write(text)
		return err
	}
	if err := os.MkdirAll(filepath.Dir(c.Out), 0o755); err != nil {
		return err
	}
	err = writeFile(c.Out, func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(a.out, "%s: %d tasks\n", c.Out, len(plan.Tasks))
	return nil
}

type lintTasksCmd struct {
	Files []string `arg:"" help:"Plans of tasks."`
	Tool  []string `help:"Programs that the job runner has, and this machine need not." placeholder:"NAME"`
	JSON  bool     `help:"Write JSON."`
}

// Help is shown by marlingen lint-tasks --help.
func (*lintTasksCmd) Help() string {
	return `Checks plans of tasks: names, dependencies, folders that two tasks could use at the same time, and
whether each verify command can succeed although its task was not done. It complains of patterns
that begin with - and are not after --, of alternatives that a skipped result has as well, of lost
exit statuses, and of programs that are not there. Everything is reported at once, each with its
file and line. Exits with 1 if there is anything.

  marlingen lint-tasks tasks/*.yaml --tool jq`
}

func (c *lintTasksCmd) Run(a *app) error {
	all := tasks.Complaints{}
	for _, file := range c.Files {
		src, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		all = append(all, tasks.Lint(file, src, c.has)...)
	}
	if c.JSON {
		if err := a.json(all); err != nil {
			return err
		}
	} else if len(all) > 0 {
		fmt.Fprintln(a.out, all)
	}
	if len(all) > 0 {
		return errFailed
	}
	return nil
}

// has reports whether the job runner has a program: this one, one that was
// named, or one that is here.
func (c *lintTasksCmd) has(program string) bool {
	if program == "marlingen" || slices.Contains(c.Tool, program) {
		return true
	}
	_, err := exec.LookPath(program)
	return err == nil
}
