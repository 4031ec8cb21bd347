package usage

import (
	"bytes"
	"io"
	"strings"

	"github.com/alecthomas/kong"
)

// Man writes a man page of section 1, in the language of man(7). exits tells of
// each exit status what it means.
func Man(w io.Writer, model *kong.Application, exits [][2]string) error {
	m := &man{}
	m.request("TH", strings.ToUpper(model.Name), "1", "", model.Name, "User Commands")
	help := strings.TrimSpace(model.Help)
	summary, _, _ := strings.Cut(help, ".")
	m.request("SH", "NAME")
	m.line(model.Name + " - " + lowerFirst(strings.Join(strings.Fields(summary), " ")))
	m.request("SH", "SYNOPSIS")
	m.raw(`\fB` + escape(model.Name) + `\fR \fIcommand\fR [\fIflags\fR]`)
	m.request("SH", "DESCRIPTION")
	m.text(help)
	m.request("SH", "COMMANDS")
	for _, node := range model.Leaves(true) {
		m.request("SS", node.Summary())
		m.text(node.Help)
		if node.Detail != "" {
			m.request("PP")
			m.text(node.Detail)
		}
		for _, a := range node.Positional {
			m.item(`\fI`+escape(a.Name)+`\fR`, a.Help)
		}
		for _, group := range node.AllFlags(true) {
			for _, f := range group {
				if f.Name == "help" {
					continue
				}
				flag := `\fB` + escape("--"+f.Name) + `\fR`
				if !f.IsBool() {
					flag += `=\fI` + escape(strings.Trim(f.FormatPlaceHolder(), `"`)) + `\fR`
				}
				m.item(flag, f.Help)
			}
		}
	}
	m.request("SH", "EXIT STATUS")
	for _, e := range exits {
		m.item(`\fB`+escape(e[0])+`\fR`, e[1])
	}
	_, err := w.Write(m.b.Bytes())
	return err
}

type man struct{ b bytes.Buffer }

// raw writes a line of roff.
func (m *man) raw(line string) { m.b.WriteString(line + "\n") }

// request writes a request and its arguments.
func (m *man) request(name string, args ...string) {
	line := "." + name
	for _, a := range args {
		line += ` "` + strings.ReplaceAll(escape(a), `"`, `\(dq`) + `"`
	}
	m.raw(line)
}

// line writes a line of text.
func (m *man) line(s string) {
	s = escape(s)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s // or it would be a request
	}
	m.raw(s)
}

// text writes paragraphs. Indented lines stay as they are.
func (m *man) text(s string) {
	example, apart := false, false // what the lines so far are, and whether an empty one came after them
	for line := range strings.SplitSeq(strings.TrimSpace(s), "\n") {
		indented := strings.HasPrefix(line, "  ")
		switch {
		case line == "":
			apart = true
			continue
		case example && !indented:
			m.request("fi")
			m.request("PP")
		case indented && !example:
			m.request("PP")
			m.request("nf")
		case apart:
			m.request("PP")
		}
		example, apart = indented, false
		m.line(line)
	}
	if example {
		m.request("fi")
	}
}

// item writes a tagged paragraph; tag is roff.
func (m *man) item(tag, text string) {
	m.request("TP")
	m.raw(tag)
	m.line(text)
}

// escape writes text as roff.
func escape(s string) string { return strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s) }

func lowerFirst(s string) string { return strings.ToLower(s[:1]) + s[1:] }
