// Package usage writes what shells and readers of manuals need to know of a
// command line: completions and a man page, from the model that parses it.
package usage

import (
	"embed"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/template"

	"github.com/alecthomas/kong"
)

// Shells are those that there are completions for.
var Shells = []string{"bash", "zsh", "fish"}

//go:embed completion.*
var scripts embed.FS

// A program is a command line with subcommands.
type program struct {
	Name     string
	Commands []command
}

type command struct {
	Name, Help string
	Flags      []option
	Words      []string // that its arguments may be, if those are a closed set
}

type option struct {
	Name, Help string
	Value      string   // placeholder; empty for a switch
	Words      []string // that the value may be, if those are a closed set
	Folder     bool     // the value is a folder
}

// Completion writes the completions of a shell.
func Completion(w io.Writer, shell string, model *kong.Application) error {
	if !slices.Contains(Shells, shell) {
		return fmt.Errorf("no completions for %q; there are %s", shell, strings.Join(Shells, ", "))
	}
	p := program{Name: model.Name}
	for _, node := range model.Children {
		if !node.Hidden {
			c := command{Name: node.Name, Help: node.Help, Flags: []option{{Name: "help", Help: "Show context-sensitive help."}}}
			c.add(node)
			p.Commands = append(p.Commands, c)
		}
	}
	name := "completion." + shell
	t, err := template.New(name).Funcs(template.FuncMap{
		"join": func(words []string) string { return strings.Join(words, " ") },
		// quote writes a word of a shell; fish has more to escape in one.
		"quote": func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" },
		"fish":  func(s string) string { return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(s) + "'" },
		// plain takes away what _arguments and _describe give a meaning.
		"plain": func(s string) string { return strings.NewReplacer("[", "(", "]", ")", ":", ",", `\`, "/").Replace(s) },
	}).ParseFS(scripts, name)
	if err != nil {
		return err
	}
	return t.Execute(w, p)
}

// add adds the flags and words of a node and those below it.
func (c *command) add(node *kong.Node) {
	for _, f := range node.Flags {
		if !f.Hidden && !slices.ContainsFunc(c.Flags, func(o option) bool { return o.Name == f.Name }) {
			c.Flags = append(c.Flags, newOption(f))
		}
	}
	for _, a := range node.Positional {
		c.Words = append(c.Words, closed(a)...)
	}
	for _, child := range node.Children {
		if !child.Hidden {
			c.Words = append(c.Words, child.Name)
			c.add(child)
		}
	}
}

func newOption(f *kong.Flag) option {
	o := option{Name: f.Name, Help: f.Help}
	if !f.IsBool() {
		o.Value, o.Words = strings.Trim(f.FormatPlaceHolder(), `"`), closed(f.Value)
		o.Folder = f.Tag.Type == "existingdir"
	}
	return o
}

// closed returns the words that v may be, or nothing if there is no end of them.
func closed(v *kong.Value) []string {
	if v.Enum == "" {
		return nil
	}
	return v.EnumSlice()
}
