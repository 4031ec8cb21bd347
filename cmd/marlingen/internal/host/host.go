// Package host reads what a machine says of itself: its memory, and the GPUs
// that need a driver.
package host

import (
	"bufio"
	"bytes"
	"io/fs"
	"path"
	"regexp"
	"strings"
)

// Memory is a machine's memory, in bytes. What is not known is 0 or empty.
type Memory struct {
	Total                uint64 `json:"total"`
	Available            uint64 `json:"available,omitempty"`
	TransparentHugePages string `json:"transparent_huge_pages,omitempty"` // always, madvise or never
	HugePages            uint64 `json:"huge_pages"`                       // reserved ones: their number
	HugePageSize         uint64 `json:"huge_page_size,omitempty"`
}

// linuxMemory reads /proc/meminfo and /sys below root.
func linuxMemory(root fs.FS) (m Memory) {
	info, _ := fs.ReadFile(root, "proc/meminfo") // absent on other systems
	lines := bufio.NewScanner(bytes.NewReader(info))
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		switch name {
		case "MemTotal":
			m.Total = 1024 * leading(value)
		case "MemAvailable":
			m.Available = 1024 * leading(value)
		case "HugePages_Total":
			m.HugePages = leading(value)
		case "Hugepagesize":
			m.HugePageSize = 1024 * leading(value)
		}
	}
	modes, _ := fs.ReadFile(root, "sys/kernel/mm/transparent_hugepage/enabled")
	if chosen := regexp.MustCompile(`\[(\w+)\]`).FindSubmatch(modes); chosen != nil {
		m.TransparentHugePages = string(chosen[1])
	}
	return m
}

// leading returns the number that s begins with, or 0.
func leading(s string) (n uint64) {
	for _, c := range strings.TrimSpace(s) {
		if c < '0' || c > '9' {
			break
		}
		n = 10*n + uint64(c-'0')
	}
	return n
}

// NVIDIA is what the kernel of Linux knows of NVIDIA's GPUs.
type NVIDIA struct {
	Driver   string   `json:"driver,omitempty"` // its version
	GPUs     []string `json:"gpus,omitempty"`   // that it drives, by name
	Undriven int      `json:"undriven"`         // GPUs without a driver
}

// InstallNVIDIA is the command that installs the driver on Debian.
const InstallNVIDIA = "apt install nvidia-driver # from non-free"

var driverVersion = regexp.MustCompile(`Kernel Module.*?\s(\d+(?:\.\d+)+)\s`)

// ReadNVIDIA reads /proc and /sys below root. There is nothing on other systems
// than Linux.
func ReadNVIDIA(root fs.FS) (n NVIDIA) {
	version, _ := fs.ReadFile(root, "proc/driver/nvidia/version")
	if m := driverVersion.FindSubmatch(version); m != nil {
		n.Driver = string(m[1])
	}
	files, _ := fs.Glob(root, "proc/driver/nvidia/gpus/*/information")
	for _, file := range files {
		text, _ := fs.ReadFile(root, file)
		name := path.Base(path.Dir(file))
		for line := range strings.SplitSeq(string(text), "\n") {
			if model, ok := strings.CutPrefix(line, "Model:"); ok {
				name = strings.TrimSpace(model)
			}
		}
		n.GPUs = append(n.GPUs, name)
	}
	if n.Driver != "" {
		return n
	}
	// A display or 3D controller of vendor 10de.
	devices, _ := fs.Glob(root, "sys/bus/pci/devices/*")
	for _, device := range devices {
		vendor, _ := fs.ReadFile(root, path.Join(device, "vendor"))
		class, _ := fs.ReadFile(root, path.Join(device, "class"))
		if strings.HasPrefix(string(vendor), "0x10de") && strings.HasPrefix(string(class), "0x03") {
			n.Undriven++
		}
	}
	return n
}
