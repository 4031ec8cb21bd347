package bench

import (
	"bytes"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// processorTime returns the time that the machine's processors were busy and
// could have been, since it started, and the part of this process; as far as
// the system tells.
func processorTime() (busy, all, own time.Duration, ok bool) {
	stat, err := os.ReadFile("/proc/stat")
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	var t [8]time.Duration // user, nice, system, idle, iowait, irq, softirq, steal
	_, scanned := fmt.Sscanf(string(line), "cpu %d %d %d %d %d %d %d %d", &t[0], &t[1], &t[2], &t[3], &t[4], &t[5], &t[6], &t[7])
	var usage unix.Rusage
	if err != nil || scanned != nil || unix.Getrusage(unix.RUSAGE_SELF, &usage) != nil {
		return 0, 0, 0, false
	}
	const tick = time.Second / 100 // of /proc
	for i, d := range t {
		all += d * tick
		if i != 3 && i != 4 {
			busy += d * tick
		}
	}
	return busy, all, time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), true
}
