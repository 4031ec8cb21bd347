package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"time"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/moe/bench"
	"github.com/marlingen/marlingen/moe/bench/result"
	"github.com/marlingen/marlingen/runtime"
)

// A resultDocument is what a run leaves behind, while it is made.
type resultDocument struct{ *result.Document }

// newResult returns the result of a run that began at started, without numbers.
func newResult(args []string, started time.Time, on runtime.Info) resultDocument {
	m := bench.ThisMachine()
	d := &result.Document{
		Schema: result.Schema, ID: result.NewID(), Time: started.UTC(), Args: args,
		Device:  result.Device{Kind: on.Kind, Name: on.Name, Driver: on.Driver},
		Machine: result.Machine{Processor: m.Processor, Processors: m.Processors, OS: m.OS, Arch: m.Arch, Go: m.Go},
		Digest:  generated.Manifest.Digest,
		Counters: result.Counters{
			Launches: map[string]uint64{}, Assignments: map[runtime.BitTuple]uint64{}, Fallbacks: []moe.FallbackCount{},
		},
		Cells: []result.Cell{},
	}
	d.Commit, d.Dirty = built()
	return resultDocument{d}
}

// built returns the commit that the command was built from, if go build knew,
// and whether there was more than it.
func built() (commit string, dirty bool) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "", false
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			commit = s.Value
		case "vcs.modified":
			dirty = s.Value == "true"
		}
	}
	return commit, dirty
}

// end notes how the run ended.
func (d resultDocument) end(ctx context.Context, err error) {
	d.Seconds = time.Since(d.Time).Seconds()
	switch {
	case err == nil:
		d.Status = result.Complete
		return
	case ctx.Err() != nil:
		d.Status = result.Interrupted
	default:
		d.Status = result.Failed
	}
	d.Why = err.Error()
}

// write writes the file at path.
func (d resultDocument) write(path string) error {
	data, err := d.Encode()
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return writeFile(path, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

type verifyResultCmd struct {
	File     string               `arg:"" help:"Result of a run."`
	Expect   []result.Expectation `help:"What has to be true of it as well: PATH=VALUE, PATH<=NUMBER, and so on." sep:"none" placeholder:"CONDITION"`
	Manifest string               `help:"Manifest of the kernels that it has to be of, or a folder that holds it or generated/; without it, that of this command." type:"path" placeholder:"PATH"`
	JSON     bool                 `help:"Write JSON."`
}

// Help is shown by marlingen verify-result --help.
func (*verifyResultCmd) Help() string {
	return `Says everything for which no number of a result may be quoted: a run that was interrupted, skipped or
failed, was made with other kernels than this command's or from a dirty tree, whose outputs were not
right, or whose counters are at zero. A path is of names with dots between; * stands for all of them.
Exits with 1 if there is anything.

  marlingen verify-result run.json --expect device.kind=cpu --expect 'cells.*.ms.p95<=20'
  marlingen verify-result run.json --expect counters.fallbacks=0`
}

// A verification is the JSON form of what verify-result found.
type verification struct {
	File       string   `json:"file"`
	ID         string   `json:"id,omitempty"`
	OK         bool     `json:"ok"`
	Complaints []string `json:"complaints"`
}

// manifestDigest returns the digest of the manifest at path, or of the command's
// own if there is no path.
func manifestDigest(path string) (string, error) {
	if path == "" {
		return generated.Manifest.Digest, nil
	}
	m, err := readManifest(path)
	if err != nil {
		return "", err
	}
	return m.Digest, nil
}

func (c *verifyResultCmd) Run(a *app) error {
	v := verification{File: c.File, Complaints: []string{}}
	digest, err := manifestDigest(c.Manifest)
	if err != nil {
		return err
	}
	d, err := readResult(c.File)
	if err == nil {
		v.ID = d.ID
		err = d.Check(digest)
		for _, e := range c.Expect {
			err = errors.Join(err, e.Check(d))
		}
	}
	for _, e := range flatten(err) {
		v.Complaints = append(v.Complaints, e.Error())
	}
	v.OK = err == nil
	if c.JSON {
		if err := a.json(v); err != nil {
			return err
		}
	} else if v.OK {
		fmt.Fprintf(a.out, "%s: run %s, %d cells\n", c.File, d.ID, len(d.Cells))
	}
	if v.OK {
		return nil
	}
	for _, complaint := range v.Complaints {
		fmt.Fprintf(a.err, "%s: %s\n", c.File, complaint)
	}
	return errFailed
}

func readResult(path string) (*result.Document, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return result.Parse(data)
}

// flatten returns the errors that were joined to make err.
func flatten(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	switch {
	case err == nil:
		return nil
	case !ok:
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, flatten(e)...)
	}
	return all
}
