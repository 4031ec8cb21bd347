package msl

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"
)

// A process is a runner: it runs one launch at a time.
type process struct {
	cmd    *exec.Cmd
	conn   *net.UnixConn
	mapped map[uint64]bool // buffers by number
}

func startProcess(path string) (*process, error) {
	cmd, conn, err := spawn(path)
	if err != nil {
		return nil, fmt.Errorf("msl: start the runner: %w", err)
	}
	return &process{cmd, conn, make(map[uint64]bool)}, nil
}

// show maps b in the process, if it is not yet.
func (p *process) show(b *buffer) error {
	if p.mapped[b.id] {
		return nil
	}
	mode := "rw"
	if b.readOnly {
		mode = "r"
	}
	p.mapped[b.id] = true
	return b.memory.send(p.conn, fmt.Sprintf("map %d %d %d %s", b.id, b.size, b.skip, mode))
}

// forget unmaps a buffer.
func (p *process) forget(id uint64) {
	if p.mapped[id] {
		delete(p.mapped, id)
		fmt.Fprintf(p.conn, "unmap %d", id)
	}
}

// A death says how a process ended in the midst of a launch.
type death struct{ how string }

func (e *death) Error() string { return e.how }

// run sends a message to run something and returns the violations that come
// back. The process is dead if the error is a *death.
func (p *process) run(ctx context.Context, message string, timeout time.Duration) (violations []string, err error) {
	if err := p.conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return nil, err
	}
	defer p.conn.SetDeadline(time.Time{}) // what is written between launches may wait
	stop := context.AfterFunc(ctx, func() { p.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := p.conn.Write([]byte(message)); err != nil {
		return nil, p.end(err, timeout)
	}
	buffer := make([]byte, 64<<10)
	for {
		n, err := p.conn.Read(buffer)
		if err != nil || n == 0 {
			return violations, p.end(err, timeout)
		}
		what, rest, _ := strings.Cut(string(buffer[:n]), " ")
		switch what {
		case "violation":
			violations = append(violations, rest)
		case "error":
			return violations, errors.New(rest)
		default:
			return violations, nil
		}
	}
}

// end ends the process after its socket failed, and says how it ended.
func (p *process) end(err error, timeout time.Duration) error {
	late := errors.Is(err, os.ErrDeadlineExceeded)
	if late {
		p.cmd.Process.Kill()
	}
	p.conn.Close()
	ended := p.cmd.Wait()
	switch {
	case late:
		return &death{fmt.Sprintf("it did not end within %v", timeout)}
	case ended != nil:
		return &death{fmt.Sprintf("the process that ran it died: %v", ended)}
	}
	return &death{"the process that ran it ended"}
}

func (p *process) close() {
	p.conn.Close()
	p.cmd.Process.Kill()
	p.cmd.Wait()
}
