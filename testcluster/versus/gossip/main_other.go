//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "gossip: network namespaces are a thing of Linux: run this there")
	os.Exit(1)
}
