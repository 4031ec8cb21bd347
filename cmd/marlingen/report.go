package main

import (
	"errors"
	"fmt"

	"github.com/alecthomas/kong"

	"github.com/marlingen/marlingen/moe/bench/page"
	"github.com/marlingen/marlingen/moe/bench/result"
)

type reportCmd struct {
	Files      []string   `arg:"" optional:"" help:"Results of bench: one document each or, in .jsonl, one per line." name:"file"`
	Compare    twoResults `help:"Compare two runs, instead of the last two of the same benchmark, device and arguments: result files, of which the last run counts, or the beginnings of ids." placeholder:"OLD NEW"`
	Markdown   string     `help:"Write Markdown to a file; without this, --html and --json, it goes to standard output." type:"path" placeholder:"FILE"`
	HTML       string     `help:"Write a page that needs no other file." type:"path" placeholder:"FILE"`
	AllowStale bool       `help:"Show figures of other kernels than there are now, marked."`
	Manifest   string     `help:"Manifest of the kernels that there are now, or a folder that holds it or generated/; without it, that of this command." type:"path" placeholder:"PATH"`
	JSON       bool       `help:"Write JSON."`
}

// twoResults is a flag of two values.
type twoResults struct{ Old, New string }

// Decode takes two words of the command line.
func (t *twoResults) Decode(c *kong.DecodeContext) error {
	return errors.Join(c.Scan.PopValueInto("OLD", &t.Old), c.Scan.PopValueInto("NEW", &t.New))
}

// Help is shown by marlingen report --help.
func (*reportCmd) Help() string {
	return `Renders what benchmarks left behind: latency and bandwidth, rows by tuple, launches, fallbacks, and how
the last two runs of the same benchmark, device and arguments compare. No figure is shown that is in
no result, or of a result that verify-result refuses; those are named, with the reasons, and the exit
status is 1. Figures of other kernels can be shown with --allow-stale, and are marked.

  marlingen report runs.jsonl
  marlingen report cpu.json cuda.json --html speed.html --markdown speed.md
  marlingen report --compare before.json after.json --allow-stale`
}

func (c *reportCmd) Run(a *app) error {
	digest, err := manifestDigest(c.Manifest)
	if err != nil {
		return err
	}
	if len(c.Files) == 0 && c.Compare.Old == "" {
		return &statusError{2, errors.New("nothing to report; name results, or two with --compare")}
	}
	var entries []result.Entry
	var errs []error
	for _, file := range c.Files {
		more, err := result.ReadAll(file)
		entries, errs = append(entries, more...), append(errs, err)
	}
	o := page.Options{Digest: digest, AllowStale: c.AllowStale}
	if c.Compare.Old != "" {
		older, olderErr := choose(c.Compare.Old)
		newer, newerErr := choose(c.Compare.New)
		o.Compare = &page.Pair{Old: older, New: newer}
		errs = append(errs, olderErr, newerErr)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	p, err := page.New(entries, o)
	if err != nil {
		a.refusals(p)
		return err
	}
	if err := c.write(a, p); err != nil {
		return err
	}
	a.refusals(p)
	if len(p.Refused) > 0 {
		return errFailed
	}
	return nil
}

// choose returns the run that a word of --compare is: of a file, if there is
// one, or else the one with such an id.
func choose(word string) (page.Choice, error) {
	if !exists(word) {
		return page.Choice{ID: word}, nil
	}
	entries, err := result.ReadAll(word)
	return page.Choice{Entries: entries}, err
}

// write writes p wherever it is to go.
func (c *reportCmd) write(a *app, p *page.Page) error {
	if c.Markdown != "" {
		if err := writeFile(c.Markdown, p.Markdown); err != nil {
			return err
		}
	}
	if c.HTML != "" {
		if err := writeFile(c.HTML, p.HTML); err != nil {
			return err
		}
	}
	switch {
	case c.JSON:
		return a.json(p)
	case c.Markdown == "" && c.HTML == "":
		return p.Markdown(a.out)
	}
	return nil
}

// refusals says which results p does not show, and why.
func (a *app) refusals(p *page.Page) {
	for _, r := range p.Refused {
		for _, reason := range r.Reasons {
			fmt.Fprintf(a.err, "%s: %s\n", r.Place, reason)
		}
	}
}
