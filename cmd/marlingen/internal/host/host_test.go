package host

import (
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

func file(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }

func TestLinuxMemory(t *testing.T) {
	require.Equal(t, Memory{
		Total: 8 << 30, Available: 5 << 20, HugePages: 12, HugePageSize: 2 << 20, TransparentHugePages: "madvise",
	}, linuxMemory(fstest.MapFS{
		"proc/meminfo": file("MemTotal:        8388608 kB\nMemFree:  1 kB\nMemAvailable:    5120 kB\nHugePages_Total:      12\nHugepagesize:       2048 kB\n"),
		"sys/kernel/mm/transparent_hugepage/enabled": file("always [madvise] never\n"),
	}))
	require.Zero(t, linuxMemory(fstest.MapFS{}))
	require.Zero(t, linuxMemory(fstest.MapFS{"proc/meminfo": file("MemTotal\nMemAvailable: much\n")}))
}

func TestReadNVIDIA(t *testing.T) {
	require.Zero(t, ReadNVIDIA(fstest.MapFS{}))
	driven := fstest.MapFS{
		"proc/driver/nvidia/version":                       file("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.10  Release Build\nGCC version: 12.2.0\n"),
		"proc/driver/nvidia/gpus/0000:01:00.0/information": file("Model: \t\t NVIDIA H200\nIRQ:   \t\t 42\n"),
		"proc/driver/nvidia/gpus/0000:02:00.0/information": file("IRQ: 43\n"),
		"sys/bus/pci/devices/0000:01:00.0/vendor":          file("0x10de\n"),
		"sys/bus/pci/devices/0000:01:00.0/class":           file("0x030200\n"),
	}
	require.Equal(t, NVIDIA{Driver: "570.86.10", GPUs: []string{"NVIDIA H200", "0000:02:00.0"}}, ReadNVIDIA(driven))
	require.Equal(t, NVIDIA{Undriven: 1}, ReadNVIDIA(fstest.MapFS{
		"sys/bus/pci/devices/0000:01:00.0/vendor": file("0x10de\n"),
		"sys/bus/pci/devices/0000:01:00.0/class":  file("0x030200\n"),
		"sys/bus/pci/devices/0000:01:00.1/vendor": file("0x10de\n"),
		"sys/bus/pci/devices/0000:01:00.1/class":  file("0x040300\n"), // its sound
		"sys/bus/pci/devices/0000:03:00.0/vendor": file("0x8086\n"),
		"sys/bus/pci/devices/0000:03:00.0/class":  file("0x030000\n"),
	}))
}
