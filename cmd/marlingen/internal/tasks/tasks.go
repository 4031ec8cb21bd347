// Package tasks writes and checks plans of tuning tasks for a job runner.
//
// A plan is a YAML file. Each task is one atomic piece of work in a folder of
// its own, and says by which command one sees that it was done. A plan is of use
// only if that command fails on work that was not done, so a plan is checked
// before it is run.
package tasks

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A Plan is tasks for a job runner.
type Plan struct {
	Plan  string `yaml:"plan"` // its name
	Doc   string `yaml:"doc"`
	Tasks []Task `yaml:"tasks"`
}

// A Task is one atomic piece of work.
type Task struct {
	Name          string   `yaml:"name"`
	Priority      string   `yaml:"priority"` // P0, the first to be done, to P3
	Dependencies  []string `yaml:"dependencies,flow"`
	Workdir       string   `yaml:"workdir"`             // below the root; no task that may run at the same time has it too
	Exclusive     string   `yaml:"exclusive,omitempty"` // tasks with the same word must not run at the same time
	Prompt        string   `yaml:"prompt"`
	VerifyCommand string   `yaml:"verify_command"` // for bash, run in the root; succeeds only if the task was done
}

// Priorities are the words for priorities, the first to be done first.
var Priorities = []string{"P0", "P1", "P2", "P3"}

// A Complaint is about a line of a plan.
type Complaint struct {
	File string `json:"file"`
	Line int    `json:"line"`
	Task string `json:"task,omitempty"`
	Msg  string `json:"message"`
}

func (c Complaint) Error() string { return fmt.Sprintf("%s:%d: %s", c.File, c.Line, c.Msg) }

// Complaints is everything wrong with plans, by file and line.
type Complaints []Complaint

func (cs Complaints) Error() string {
	var lines []string
	for _, c := range cs {
		lines = append(lines, c.Error())
	}
	return strings.Join(lines, "\n")
}

func (cs Complaints) sort() {
	slices.SortStableFunc(cs, func(a, b Complaint) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
}
