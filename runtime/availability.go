package runtime

import "fmt"

// A State says what became of a kernel when a device loaded its library.
type State uint8

// The states of a kernel.
const (
	Missing State = iota // the library has no function of this name
	Failed               // the device refused it, and said why
	Broken               // a launch of it failed
	Present              // ready to launch
)

func (s State) String() string {
	switch s {
	case Missing:
		return "missing"
	case Failed:
		return "failed"
	case Broken:
		return "broken"
	case Present:
		return "present"
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// MarshalText writes what String returns.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// A Status is the state of one kernel.
type Status struct {
	State State
	Words string // the compiler's or the device's, if it has any
}

// Availability holds the status of each kernel by symbol; a symbol that it
// lacks is missing. Only a Library makes one, from what its device compiled.
type Availability map[string]Status

// Of returns the status of k.
func (a Availability) Of(k *Kernel) Status { return a[k.Symbol] }
