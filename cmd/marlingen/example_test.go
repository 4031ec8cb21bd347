package main

import (
	"context"
	"fmt"
	"os"
)

// marlingen regenerate --check, in a project whose generated/ is current.
func Example() {
	status := run(context.Background(), []string{"regenerate", "--check", "--json", "--root", "../.."}, os.Stdout, os.Stderr)
	fmt.Println("exit status", status)
	// Output:
	// {
	//   "changes": [],
	//   "files": 19,
	//   "stale": []
	// }
	// exit status 0
}
