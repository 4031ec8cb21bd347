package bench

import (
	"os"
	"regexp"
	goruntime "runtime"
)

// A Machine is where a run took place.
type Machine struct {
	Processor  string // as it calls itself, or its architecture
	OS         string
	Arch       string
	Processors int // that Go uses
	Go         string
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
