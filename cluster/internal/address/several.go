package address

import (
	"fmt"

	"github.com/peerhq/peer/cluster/internal/text"
)

// maxSeveral is how many bytes Several's error shows: two lines of a terminal,
// however many records a name has.
const maxSeveral = 200

// severalError is one error of many.
type severalError struct {
	what string
	errs []error
}

// Several makes one short error of many: "64 addresses, none answers; first: …",
// where what is "addresses, none answers". It leaves nil errors out, returns nil
// when there is no other, and a single one as it is. The causes are still found
// by errors.Is and errors.As.
func Several(what string, errs []error) error {
	var some []error
	for _, err := range errs {
		if err != nil {
			some = append(some, err)
		}
	}
	switch len(some) {
	case 0:
		return nil
	case 1:
		return some[0]
	}
	return &severalError{what: what, errs: some}
}

func (e *severalError) Error() string {
	return text.Line(fmt.Sprintf("%d %s; first: %v", len(e.errs), e.what, e.errs[0]), maxSeveral)
}

func (e *severalError) Unwrap() []error { return e.errs }

// SameFailure says whether b tells a person nothing new after a. Two errors of
// Several are the same when both are about the same thing: which of many dead
// addresses was asked first changes with every attempt.
func SameFailure(a, b error) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	x, ok := a.(*severalError)
	y, both := b.(*severalError)
	if ok && both {
		return x.what == y.what
	}
	return a.Error() == b.Error()
}
