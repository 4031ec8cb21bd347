package tasks

import (
	"path"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"

	"github.com/marlingen/marlingen/moe/bench/result"
)

// A verifier reads one verify command.
type verifier struct {
	*linter
	first    int  // line of the file with the command's first
	errexit  bool // set -e was there
	pipefail bool // set -o pipefail was there
}

// verify checks a command whose first line is line first of the file: whether
// it can succeed although its task was not done.
func (l *linter) verify(script string, first int) {
	v := &verifier{linter: l, first: first}
	file, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(strings.NewReader(script), "")
	if err != nil {
		line := first
		if e, ok := err.(syntax.ParseError); ok {
			line += int(e.Pos.Line()) - 1
			err = errorText(e.Text)
		}
		l.errorf(line, "bash cannot read it: %v", err)
		return
	}
	before := len(l.all)
	if !v.list(file.Stmts) && len(l.all) == before {
		l.errorf(first, "it succeeds on an empty or a skipped result: nothing in it judges one; use marlingen verify-result")
	}
}

type errorText string

func (e errorText) Error() string { return string(e) }

func (v *verifier) complain(n syntax.Node, format string, args ...any) {
	v.errorf(v.first+int(n.Pos().Line())-1, format, args...)
}

// list checks statements of which the last decides. It reports whether they
// judge anything.
func (v *verifier) list(stmts []*syntax.Stmt) (judges bool) {
	for i, s := range stmts {
		last := i == len(stmts)-1
		judged := v.statement(s, false)
		if !last && !v.errexit && !setting(s) {
			v.complain(s, "its exit status is ignored; put && after it, or begin with set -e")
			judged = false
		}
		judges = judges || judged
	}
	return judges
}

// setting reports whether s only sets something up, and cannot fail.
func setting(s *syntax.Stmt) bool {
	switch c := s.Cmd.(type) {
	case *syntax.CallExpr:
		return len(c.Args) == 0 || slices.Contains([]string{"set", "export", "umask", ":", "true"}, text(c.Args[0]).value)
	case *syntax.DeclClause:
		return true
	}
	return false
}

// statement reports whether the success of s says something about a result.
// piped says that s reads the output of another.
func (v *verifier) statement(s *syntax.Stmt, piped bool) (judges bool) {
	if s.Background {
		v.complain(s, "& runs it in the background: its exit status is lost")
	}
	for _, r := range s.Redirs {
		piped = piped || r.Op == syntax.RdrIn || r.Op == syntax.Hdoc || r.Op == syntax.DashHdoc || r.Op == syntax.WordHdoc
	}
	switch c := s.Cmd.(type) {
	case *syntax.CallExpr:
		judges = v.call(c, piped)
	case *syntax.BinaryCmd:
		judges = v.binary(c, piped)
	case *syntax.Subshell:
		judges = v.list(c.Stmts)
	case *syntax.Block:
		judges = v.list(c.Stmts)
	case *syntax.DeclClause:
	default:
		v.complain(s, "a verify command is of commands, && and pipes; this may succeed without having run any")
	}
	if s.Negated {
		v.complain(s, "! accepts any failure, also that of a result which is not there")
	}
	return judges
}

func (v *verifier) binary(c *syntax.BinaryCmd, piped bool) bool {
	switch c.Op {
	case syntax.AndStmt:
		x := v.statement(c.X, piped)
		return v.statement(c.Y, piped) || x
	case syntax.OrStmt:
		x := v.statement(c.X, piped)
		if fails(c.Y) {
			return x
		}
		before := len(v.all)
		if y := v.statement(c.Y, piped); !y && len(v.all) == before {
			v.complain(c.Y, "|| followed by what always succeeds accepts any failure")
		}
		return x
	}
	x := v.statement(c.X, piped)
	y := v.statement(c.Y, true)
	if x && !y && !v.pipefail {
		v.complain(c.Y, "the exit status of a pipe is that of its last command; begin with set -o pipefail, or leave out the pipe")
	}
	return y || x && v.pipefail
}

// fails reports whether s is a plain exit 1 or false.
func fails(s *syntax.Stmt) bool {
	c, ok := s.Cmd.(*syntax.CallExpr)
	if !ok || len(c.Args) == 0 {
		return false
	}
	switch text(c.Args[0]).value {
	case "false":
		return true
	case "exit", "return":
		return len(c.Args) == 2 && text(c.Args[1]).value != "0"
	}
	return false
}

// Commands that succeed whatever a result holds, or that only look whether it
// is there.
var weak = []string{
	":", "true", "echo", "printf", "cat", "ls", "cd", "pushd", "popd", "pwd", "set", "export", "mkdir", "touch", "cp", "mv", "rm", "ln",
	"head", "tail", "wc", "sort", "uniq", "tee", "cut", "tr", "sed", "find", "stat", "file", "du", "date", "sleep", "wait", "exit", "return",
	"shift", "umask", "readlink", "realpath", "basename", "dirname", "less", "more",
}

// Subcommands of marlingen that judge nothing.
var weakOurs = []string{"doctor", "schema", "man", "completion", "tasks", "select", "--help", "--version"}

func (v *verifier) call(c *syntax.CallExpr, piped bool) bool {
	if len(c.Args) == 0 {
		return false
	}
	words := make([]word, len(c.Args))
	for i, w := range c.Args {
		words[i] = text(w)
	}
	if !words[0].exact {
		v.complain(c, "which program it runs cannot be told; name it")
		return false
	}
	v.programs(c)
	name := path.Base(words[0].value)
	switch {
	case slices.Contains(weak, name):
		if name == "set" {
			v.set(words[1:])
		}
		return false
	case name == "test" || name == "[":
		return v.test(c, words)
	case slices.Contains(greps, name):
		v.grep(c, words, piped)
		return true
	case name == "jq":
		if !slices.ContainsFunc(words, func(w word) bool {
			return w.value == "--exit-status" || strings.HasPrefix(w.value, "-") && !strings.HasPrefix(w.value, "--") && strings.Contains(w.value, "e")
		}) {
			v.complain(c, "jq succeeds whatever it prints, also on an empty file; use jq -e")
		}
		return true
	case name == "git":
		return slices.ContainsFunc(words, func(w word) bool { return w.value == "--quiet" || w.value == "--exit-code" })
	case name == "marlingen":
		return v.ours(c, words)
	}
	return !slices.ContainsFunc(words, func(w word) bool { return w.value == "--help" || w.value == "--version" || w.value == "json.tool" })
}

// programs complains of programs that c or what is substituted in it runs, and
// that the job runner does not have. Those of a task's own folder are made by it.
func (v *verifier) programs(c *syntax.CallExpr) {
	syntax.Walk(c, func(n syntax.Node) bool {
		call, ok := n.(*syntax.CallExpr)
		if !ok || len(call.Args) == 0 {
			return true
		}
		name := text(call.Args[0])
		here := strings.Contains(name.value, "/") && !path.IsAbs(name.value)
		if name.exact && !here && !interp.IsBuiltin(name.value) && !v.has(name.value) {
			v.complain(call, "there is no program %s here", name.value)
		}
		return true
	})
}

// set notes the options of the shell.
func (v *verifier) set(args []word) {
	for i, a := range args {
		short := strings.HasPrefix(a.value, "-") && !strings.HasPrefix(a.value, "--")
		v.errexit = v.errexit || short && strings.Contains(a.value, "e") || i > 0 && a.value == "errexit"
		v.pipefail = v.pipefail || i > 0 && a.value == "pipefail"
	}
}

// test reports whether a test is more than one whether a file is there.
func (v *verifier) test(c *syntax.CallExpr, words []word) bool {
	compares := false
	for _, w := range words {
		switch w.value {
		case "=", "==", "-eq", "-lt", "-le", "-gt", "-ge":
			compares = true
		case "!=", "-ne":
			v.complain(c, "%s also holds for an empty or a missing result; ask for what is wanted with = or -eq", w.value)
			return true
		}
	}
	return compares
}

// ours checks a call of marlingen.
func (v *verifier) ours(c *syntax.CallExpr, words []word) bool {
	if len(words) < 2 || slices.ContainsFunc(words[1:], func(w word) bool { return slices.Contains(weakOurs, w.value) }) {
		return false
	}
	if words[1].value != "verify-result" {
		return true
	}
	files := 0
	for i := 2; i < len(words); i++ {
		name, value, with := strings.Cut(words[i].value, "=")
		if !strings.HasPrefix(name, "--") {
			files++
			continue
		}
		exact := words[i].exact
		if name == "--json" {
			continue
		}
		if !with {
			if i++; i == len(words) {
				v.complain(c, "%s needs a value", name)
				return true
			}
			value, exact = words[i].value, words[i].exact
		}
		switch name {
		case "--expect":
			if err := new(result.Expectation).UnmarshalText([]byte(value)); exact && err != nil {
				v.complain(c.Args[i], "--expect: %v", err)
			}
		case "--manifest":
		default:
			v.complain(c.Args[i], "verify-result has no flag %s", name)
		}
	}
	if files != 1 {
		v.complain(c, "verify-result takes one file, and there are %d", files)
	}
	return true
}
