// Command peer answers three questions on every host of a cluster: who is
// alive, whose turn is it, who may go in. `peer help` is its manual.
//
// One verb is one file. What all of them share is small: program is the world
// they run in, verb what they declare, invocation one call of one of them;
// output.go draws, exit.go turns errors into exit codes.
package main

import (
	"context"
	"io"
	"os"

	"github.com/peerhq/peer/cmd/peer/guard"
)

func main() {
	// A guard of `peer lock` is this same program, started again.
	if code, ok := guard.Main(os.Args); ok {
		os.Exit(code)
	}
	os.Exit(run(context.Background(), os.Args, os.Stdin, os.Stdout, os.Stderr, os.Environ()))
}

// run is the whole program. It returns the code to exit with, once everything
// that it started has ended.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, environ []string) int {
	p := &program{stdin: stdin, stdout: stdout, stderr: stderr, environ: environ}
	words := args[1:]
	if n := len(words); n > 0 && words[n-1] == completionWord {
		// Never more than this, whatever stands before it: a shell that asks
		// for completions must not run anything.
		p.complete(ctx, words[:n-1])
		return exitOK
	}
	return p.exit(p.app().RunContext(ctx, args))
}
