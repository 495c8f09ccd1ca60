package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/peerhq/peer/agent/api"
)

// The exit codes. `peer lock` also ends with COMMAND's own.
const (
	exitOK          = 0
	exitError       = 1   // it did not work
	exitNo          = 2   // the answer is no: no match, not ready
	exitUsage       = 64  // the command line is wrong
	exitUnavailable = 69  // the agent or the Redis is out of reach
	exitTimeout     = 75  // the lock was not obtained in time
	exitLost        = 76  // the lock was lost while COMMAND ran
	exitRefused     = 77  // a token, a password or a right is missing
	exitConfig      = 78  // the configuration is wrong
	exitNotRunnable = 126 // COMMAND cannot be executed
	exitNotFound    = 127 // COMMAND does not exist
	exitSignal      = 128 // plus the signal
)

var exitTexts = map[int]string{
	exitOK:          "it worked",
	exitError:       "it did not work",
	exitNo:          "the answer is no: nothing matches, or not ready",
	exitUsage:       "the command line is wrong",
	exitUnavailable: "the agent, or the shared Redis, is out of reach",
	exitTimeout:     "the lock was not obtained in time",
	exitLost:        "the lock was lost while COMMAND ran; COMMAND was stopped",
	exitRefused:     "refused: a token, a password or a right is missing",
	exitConfig:      "the configuration is wrong",
	exitNotRunnable: "COMMAND cannot be executed",
	exitNotFound:    "COMMAND was not found",
	exitSignal:      "ended by signal n",
}

// exitCode is an error that ends the program with a code. With a nil Err
// nothing is printed: it has been said.
type exitCode struct {
	code int
	err  error
}

func (e *exitCode) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.err.Error()
}

func (e *exitCode) Unwrap() error { return e.err }

func withCode(code int, err error) error { return &exitCode{code: code, err: err} }

// usageError is a command line that cannot be understood. Its verb is nil when
// the verb is what is wrong.
type usageError struct {
	verb *verb
	text string
}

func (e *usageError) Error() string { return e.text }

// exit prints err and returns the code to end with.
func (p *program) exit(err error) int {
	if err == nil {
		return exitOK
	}
	var ue *usageError
	if errors.As(err, &ue) {
		p.printUsage(ue)
		return exitUsage
	}
	code, quiet := codeOf(err)
	if !quiet {
		p.printError(err)
	}
	return code
}

func codeOf(err error) (code int, quiet bool) {
	var ec *exitCode
	if errors.As(err, &ec) {
		return ec.code, ec.err == nil
	}
	var unreachable *api.UnreachableError
	var problem *api.Problem
	switch {
	case errors.As(err, &unreachable):
		return exitUnavailable, false
	case errors.As(err, &problem):
		return codeOfProblem(problem), false
	case errors.Is(err, context.Canceled):
		return exitError, false
	}
	return exitError, false
}

func codeOfProblem(p *api.Problem) int {
	switch p.Kind() {
	case api.KindNoPeers, api.KindNoMatch, api.KindNoMember, api.KindNoLock, api.KindNoService:
		return exitNo
	case api.KindRedis:
		return exitUnavailable
	case api.KindNoRedis:
		return exitConfig
	case api.KindLiving:
		return exitRefused
	}
	switch p.Status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusMisdirectedRequest:
		return exitRefused
	case http.StatusBadRequest:
		return exitUsage
	}
	return exitError
}

// printError writes one line a mistake, and the way to mend it below.
func (p *program) printError(err error) {
	for line := range strings.Lines(clean(err.Error())) {
		fmt.Fprintf(p.stderr, "peer: %s\n", strings.TrimSuffix(line, "\n"))
	}
	var problem *api.Problem
	if errors.As(err, &problem) && problem.Fix != "" {
		fmt.Fprintf(p.stderr, "  fix: %s\n", clean(problem.Fix))
	}
}

func (p *program) printUsage(e *usageError) {
	if e.verb == nil {
		fmt.Fprintf(p.stderr, "peer: %s\nusage: peer VERB [FLAGS] [ARGUMENTS]\n`peer help` lists the verbs.\n", clean(e.text))
		return
	}
	path := e.verb.path()
	fmt.Fprintf(p.stderr, "%s: %s\nusage: %s %s\n`peer help %s` tells more.\n",
		path, clean(e.text), path, e.verb.form, e.verb.parent+e.verb.name)
}
