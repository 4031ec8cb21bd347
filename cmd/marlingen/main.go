// Marlingen generates mixed-bit mixture-of-experts kernels from specs, and runs
// them.
//
// Exit status: 0 if all is well, 1 if a check failed or something went wrong,
// 2 if the command line makes no sense, 130 if it was interrupted. That of diff
// is as of diff(1): 1 if there is a difference, 2 if something went wrong.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

const description = `
Generates mixed-bit mixture-of-experts kernels for Apple GPUs from YAML specs,
and runs them.

Every expert of a checkpoint may have a bit tuple of its own, gate_up_down, such
as 6_2_3. One line of specs/codecs/trellis.yaml per tuple makes its Metal
kernels and the Go rows that dispatch them:

  echo '  - 7_5_2' >> specs/codecs/trellis.yaml && marlingen regenerate
`

type cli struct {
	Regenerate   regenerateCmd   `cmd:"" help:"Write generated/ from specs/ and templates/, or check it."`
	Compile      compileCmd      `cmd:"" help:"Compile the generated Metal: into a library on a Mac, or to PTX for NVIDIA."`
	Inventory    inventoryCmd    `cmd:"" help:"Say which kernels of the table a device has."`
	AddTuples    addTuplesCmd    `cmd:"" help:"Have kernels for the tuples of a checkpoint."`
	Select       selectCmd       `cmd:"" help:"Say which kernel runs a tuple, and why."`
	Quantize     quantizeCmd     `cmd:"" help:"Quantise a checkpoint's experts to tuples."`
	Generate     generateCmd     `cmd:"" help:"Go on with a text."`
	Perplexity   perplexityCmd   `cmd:"" help:"Say how well a model predicts a text."`
	Quality      qualityCmd      `cmd:"" help:"Tabulate what quantising a model in several ways costs."`
	Run          runCmd          `cmd:"" help:"Run a checkpoint's MoE layers through the fairway."`
	Bench        benchCmd        `cmd:"" help:"Time models, layers and kernels, against what the machine can do."`
	CheckMetal   checkMetalCmd   `cmd:"" help:"Read Metal as Apple's front end would."`
	Doctor       doctorCmd       `cmd:"" help:"Say what this machine offers, and what is missing."`
	VerifyResult verifyResultCmd `cmd:"" help:"Say whether numbers of a run may be quoted."`
	Tune         tuneCmd         `cmd:"" help:"Find the numbers and kinds of kernels that are fastest on a device."`
	Report       reportCmd       `cmd:"" help:"Render results: times, launches, comparisons."`
	Tasks        tasksCmd        `cmd:"" help:"Write a plan of tuning tasks for a job runner."`
	LintTasks    lintTasksCmd    `cmd:"" help:"Say what is wrong with plans of tasks."`
	Schema       schemaCmd       `cmd:"" help:"Write the JSON schema of a kind of spec."`
	Diff         diffCmd         `cmd:"" help:"Say what changed between two manifests."`
	Prove        proveCmd        `cmd:"" help:"Hold every generated kernel to all that can be proved on this machine."`
	Completion   completionCmd   `cmd:"" help:"Write completions for a shell."`
	Man          manCmd          `cmd:"" help:"Write the man page."`
}

// An app is where a command writes, and its command line.
type app struct {
	out, err io.Writer
	args     []string // without the program
}

// errFailed is a check that failed and has been reported.
var errFailed = errors.New("a check failed")

// A statusError is an error with an exit status other than 1.
type statusError struct {
	status int
	err    error
}

func (e *statusError) Error() string { return e.err.Error() }
func (e *statusError) Unwrap() error { return e.err }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is main without a process around it. It returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var c cli
	status := -1
	parser, err := kong.New(&c,
		kong.Name("marlingen"),
		kong.Description(description),
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { status = code }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.Vars{"profiles": profileNames(), "kinds": specKinds()},
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(&app{stdout, stderr, args}),
	)
	if err != nil {
		panic(err) // the struct above is wrong
	}
	command, err := parser.Parse(args)
	if status >= 0 {
		return status // help was asked for
	}
	if err != nil {
		fmt.Fprintf(stderr, "marlingen: %v\nmarlingen --help shows the commands.\n", err)
		return 2
	}
	err = command.Run()
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil:
		fmt.Fprintln(stderr, "marlingen: interrupted")
		return 130
	case !errors.Is(err, errFailed):
		fmt.Fprintf(stderr, "marlingen: %v\n", err)
	}
	if other := (*statusError)(nil); errors.As(err, &other) {
		return other.status
	}
	return 1
}
