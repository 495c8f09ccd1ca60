//go:build !linux

package lockclient

import "time"

// suspended is not known here: after a machine's sleep a hold looks valid for
// longer than it is, until its next renewal.
func suspended() time.Duration { return 0 }
