//go:build !linux

package bench

import "time"

func processorTime() (busy, all, own time.Duration, ok bool) { return 0, 0, 0, false }
