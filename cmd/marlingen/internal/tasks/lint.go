package tasks

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// Lint checks a plan. It returns everything that is wrong, by line. has says
// whether the job runner has a program.
func Lint(file string, src []byte, has func(program string) bool) Complaints {
	l := &linter{file: file, has: has}
	l.document(src)
	l.graph()
	l.all.sort()
	return l.all
}

type linter struct {
	file  string
	has   func(string) bool
	tasks []*task
	task  *task // that is being read
	all   Complaints
}

// A task is a Task and where it says what.
type task struct {
	Task
	line    int
	at      map[string]int // line of a field
	depends []int          // line of each dependency
}

func (l *linter) errorf(line int, format string, args ...any) {
	c := Complaint{File: l.file, Line: line, Msg: fmt.Sprintf(format, args...)}
	if l.task != nil {
		c.Task = l.task.Name
	}
	l.all = append(l.all, c)
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

// document reads the plan.
func (l *linter) document(src []byte) {
	var doc yaml.Node
	if err := yaml.Unmarshal(src, &doc); err != nil {
		line, msg := 1, err.Error()
		if m := yamlLine.FindStringSubmatch(msg); m != nil {
			msg = m[2]
			if n, err := strconv.Atoi(m[1]); err == nil {
				line = n
			}
		}
		l.errorf(line, "%s", msg)
		return
	}
	if len(doc.Content) == 0 {
		l.errorf(1, "the file is empty")
		return
	}
	l.fields(doc.Content[0], map[string]func(*yaml.Node){
		"plan":  func(n *yaml.Node) { l.text(n, "plan") },
		"doc":   func(n *yaml.Node) { l.text(n, "doc") },
		"tasks": l.readTasks,
	}, "plan", "doc", "tasks")
}

// fields hands each field of n to its reader. It complains about those that
// nobody reads, that are there twice, and about needed ones that are not there.
func (l *linter) fields(n *yaml.Node, read map[string]func(*yaml.Node), needed ...string) {
	if n.Kind != yaml.MappingNode {
		l.errorf(n.Line, "want fields, one a line: %s", strings.Join(needed, ", "))
		return
	}
	seen := map[string]bool{}
	for i := 0; i < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch {
		case read[key.Value] == nil:
			l.errorf(key.Line, "field %s is not known", key.Value)
		case seen[key.Value]:
			l.errorf(key.Line, "field %s is there twice", key.Value)
		default:
			read[key.Value](value)
		}
		seen[key.Value] = true
	}
	for _, name := range needed {
		if !seen[name] {
			l.errorf(n.Line, "%s is missing", name)
		}
	}
}

// text reads a text that is not empty.
func (l *linter) text(n *yaml.Node, field string) string {
	if n.Kind != yaml.ScalarNode || strings.TrimSpace(n.Value) == "" || n.Tag == "!!null" {
		l.errorf(n.Line, "%s is not a text, or is empty", field)
		return ""
	}
	return n.Value
}

func (l *linter) readTasks(n *yaml.Node) {
	if n.Kind != yaml.SequenceNode || len(n.Content) == 0 {
		l.errorf(n.Line, "tasks is no list, or is empty")
		return
	}
	for _, item := range n.Content {
		l.readTask(item)
	}
	l.task = nil
}

var taskName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]*$`)

func (l *linter) readTask(n *yaml.Node) {
	t := &task{line: n.Line, at: map[string]int{}}
	l.tasks, l.task = append(l.tasks, t), t
	field := func(name string, to *string) func(*yaml.Node) {
		return func(n *yaml.Node) {
			*to = l.text(n, name)
			t.at[name] = n.Line
		}
	}
	var script *yaml.Node
	l.fields(n, map[string]func(*yaml.Node){
		"name":         field("name", &t.Name),
		"priority":     field("priority", &t.Priority),
		"workdir":      field("workdir", &t.Workdir),
		"exclusive":    field("exclusive", &t.Exclusive),
		"prompt":       field("prompt", &t.Prompt),
		"dependencies": l.readDependencies,
		"verify_command": func(n *yaml.Node) {
			script = n
			t.VerifyCommand = l.text(n, "verify_command")
		},
	}, "name", "priority", "dependencies", "workdir", "prompt", "verify_command")
	if t.Name != "" && !taskName.MatchString(t.Name) {
		l.errorf(t.at["name"], "name %q is not of small letters, digits, '.', '_' and '-'", t.Name)
	}
	if t.Priority != "" && !slices.Contains(Priorities, t.Priority) {
		l.errorf(t.at["priority"], "priority %q is unknown; write one of %s", t.Priority, strings.Join(Priorities, ", "))
	}
	if dir := path.Clean(t.Workdir); t.Workdir != "" && (path.IsAbs(dir) || dir == "." || dir == ".." || strings.HasPrefix(dir, "../")) {
		l.errorf(t.at["workdir"], "workdir %q is no folder below the root", t.Workdir)
	}
	if t.VerifyCommand != "" {
		first := script.Line
		if script.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
			first++
		}
		l.verify(t.VerifyCommand, first)
	}
}

func (l *linter) readDependencies(n *yaml.Node) {
	if n.Kind != yaml.SequenceNode {
		l.errorf(n.Line, "dependencies is no list; write [] for none")
		return
	}
	t := l.task
	for _, d := range n.Content {
		switch name := l.text(d, "a dependency"); {
		case name == "":
		case slices.Contains(t.Dependencies, name):
			l.errorf(d.Line, "dependency %s is there twice", name)
		default:
			t.Dependencies = append(t.Dependencies, name)
			t.depends = append(t.depends, d.Line)
		}
	}
}

// graph checks what tasks say of each other.
func (l *linter) graph() {
	byName := map[string]*task{}
	for _, t := range l.tasks {
		l.task = t
		if first := byName[t.Name]; first != nil {
			l.errorf(t.at["name"], "task %s is on line %d already", t.Name, first.at["name"])
		} else if t.Name != "" {
			byName[t.Name] = t
		}
	}
	for _, t := range l.tasks {
		l.task = t
		for i, name := range t.Dependencies {
			if byName[name] == nil {
				l.errorf(t.depends[i], "no task is called %s", name)
			}
		}
	}
	l.cycles(byName)
	l.shared(byName)
}

// cycles complains once about each circle of dependencies.
func (l *linter) cycles(byName map[string]*task) {
	const open, done = 1, 2
	state := map[*task]int{}
	var path []*task
	var visit func(*task)
	visit = func(t *task) {
		state[t] = open
		path = append(path, t)
		for i, name := range t.Dependencies {
			switch d := byName[name]; {
			case d == nil:
			case state[d] == open:
				var names []string
				for _, p := range path[slices.Index(path, d):] {
					names = append(names, p.Name)
				}
				l.task = t
				l.errorf(t.depends[i], "tasks wait for each other: %s → %s", strings.Join(names, " → "), name)
			case state[d] == 0:
				visit(d)
			}
		}
		path = path[:len(path)-1]
		state[t] = done
	}
	for _, t := range l.tasks {
		if state[t] == 0 {
			visit(t)
		}
	}
}

// shared complains about tasks that may run at the same time in one folder.
func (l *linter) shared(byName map[string]*task) {
	before := map[*task]map[*task]bool{} // what a task waits for
	var waits func(t *task) map[*task]bool
	waits = func(t *task) map[*task]bool {
		if before[t] != nil {
			return before[t]
		}
		before[t] = map[*task]bool{}
		for _, name := range t.Dependencies {
			if d := byName[name]; d != nil {
				before[t][d] = true
				for e := range waits(d) {
					before[t][e] = true
				}
			}
		}
		return before[t]
	}
	for i, t := range l.tasks {
		for _, u := range l.tasks[:i] {
			if t.Workdir != "" && u.Workdir != "" && overlap(path.Clean(t.Workdir), path.Clean(u.Workdir)) && !waits(t)[u] && !waits(u)[t] {
				l.task = t
				l.errorf(t.at["workdir"], "workdir %s is also in use by task %s, which may run at the same time", t.Workdir, u.Name)
			}
		}
	}
}

// overlap reports whether one folder is the other, or in it.
func overlap(a, b string) bool {
	return a == b || strings.HasPrefix(a, b+"/") || strings.HasPrefix(b, a+"/")
}
