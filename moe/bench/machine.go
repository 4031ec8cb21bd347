package bench

import (
	"os"
	"regexp"
	goruntime "runtime"
)

// A Machine is where a run took place.
type Machine struct {
	Processor  string `json:"processor"` // as it calls itself, or its architecture
	OS         string `json:"os"`
	Arch       string `json:"arch"`
	Processors int    `json:"processors"` // that Go uses
	Go         string `json:"go"`
}

// ThisMachine describes the machine.
func ThisMachine() Machine {
	m := Machine{goruntime.GOARCH, goruntime.GOOS, goruntime.GOARCH, goruntime.GOMAXPROCS(0), goruntime.Version()}
	info, _ := os.ReadFile("/proc/cpuinfo") // on Linux
	if name := regexp.MustCompile(`(?m)^model name\s*:\s*(.+)$`).FindSubmatch(info); name != nil {
		m.Processor = string(name[1])
	}
	return m
}
