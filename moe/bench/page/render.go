package page

import (
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io"
	"strings"
	texttemplate "text/template"
	"unicode"

	"golang.org/x/text/runes"
	"golang.org/x/text/transform"
)

//go:embed page.html.tmpl page.md.tmpl style.css
var files embed.FS

var (
	htmlPage = template.Must(template.New("page.html.tmpl").Funcs(template.FuncMap{"style": style, "breakable": breakable}).ParseFS(files, "page.html.tmpl"))
	markdown = texttemplate.Must(texttemplate.New("page.md.tmpl").Funcs(texttemplate.FuncMap{"md": escape, "code": code}).ParseFS(files, "page.md.tmpl"))
)

// HTML writes p as one file that needs no other, no network and no scripts.
func (p *Page) HTML(w io.Writer) error { return printed(w, htmlPage, p) }

// Markdown writes p without charts.
func (p *Page) Markdown(w io.Writer) error { return printed(w, markdown, p) }

// printed writes what a template makes of p, without characters that documents
// have and that no page may have: they move a terminal's cursor, or are none.
func printed(w io.Writer, t interface{ Execute(io.Writer, any) error }, p *Page) error {
	out := transform.NewWriter(w, runes.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' || r&0xfffe == 0xfffe {
			return unicode.ReplacementChar
		}
		return r
	}))
	return errors.Join(t.Execute(out, p), out.Close())
}

func style() (template.CSS, error) {
	css, err := files.ReadFile("style.css")
	return template.CSS(css), err
}

// breakable writes text as HTML that may go on in another line after a slash.
func breakable(s string) template.HTML {
	return template.HTML(strings.ReplaceAll(template.HTMLEscapeString(s), "/", "/<wbr/>"))
}

// escape writes text as Markdown that shows it as it is, in one line.
func escape(v any) string {
	s := strings.Join(strings.Fields(fmt.Sprint(v)), " ")
	return special.Replace(s)
}

var special = strings.NewReplacer(
	`\`, `\\`, "|", `\|`, "<", "&lt;", ">", "&gt;", "&", "&amp;", "`", "\\`", "*", `\*`, "[", `\[`, "]", `\]`, "#", `\#`,
)

// code writes text as code, in one line.
func code(s string) string {
	s = strings.ReplaceAll(strings.Join(strings.Fields(s), " "), "|", `\|`)
	fence := "`"
	for strings.Contains(s, fence) {
		fence += "`"
	}
	if len(fence) > 1 {
		return fence + " " + s + " " + fence
	}
	return fence + s + fence
}
