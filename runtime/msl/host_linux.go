package msl

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	goruntime "runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// supported reports why this host cannot run what clang compiles for it.
func supported() error {
	if goruntime.GOARCH != "amd64" {
		return fmt.Errorf("msl: no device on linux/%s; it runs on linux/amd64", goruntime.GOARCH)
	}
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return nil // the runner will tell
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), ":")
		if strings.TrimSpace(name) != "flags" {
			continue
		}
		have := strings.Fields(value)
		for _, want := range []string{"avx2", "bmi2", "fma", "f16c"} {
			if !slices.Contains(have, want) {
				return fmt.Errorf("msl: no device here: it needs a processor with %s", want)
			}
		}
		break
	}
	return nil
}

// A memory is a file without a name that processes can map.
type memory struct {
	file   *os.File
	mapped []byte
}

func newMemory(size int) (*memory, error) {
	if size == 0 {
		return &memory{}, nil
	}
	fd, err := unix.MemfdCreate("msl", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	m := &memory{file: os.NewFile(uintptr(fd), "msl")}
	if err := m.file.Truncate(int64(size)); err != nil {
		m.file.Close()
		return nil, err
	}
	m.mapped, err = unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		m.file.Close()
		return nil, err
	}
	return m, nil
}

func (m *memory) close() error {
	if m.file == nil {
		return nil
	}
	err := unix.Munmap(m.mapped)
	m.mapped = nil
	if e := m.file.Close(); err == nil {
		err = e
	}
	return err
}

// send sends a message, and the file of m along with it.
func (m *memory) send(conn *net.UnixConn, message string) error {
	var rights []byte
	if m.file != nil {
		rights = unix.UnixRights(int(m.file.Fd()))
	}
	_, _, err := conn.WriteMsgUnix([]byte(message), rights, nil)
	return err
}

// spawn starts a program with a socket as file descriptor 3.
func spawn(path string) (*exec.Cmd, *net.UnixConn, error) {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	ours, theirs := os.NewFile(uintptr(ends[0]), "msl"), os.NewFile(uintptr(ends[1]), "msl")
	defer ours.Close()
	defer theirs.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.Command(path)
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Env = []string{}
	if err := cmd.Start(); err != nil {
		conn.Close()
		return nil, nil, err
	}
	return cmd, conn.(*net.UnixConn), nil
}
