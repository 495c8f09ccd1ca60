package lockclient

import "errors"

// Validate reports the mistakes for which Start would refuse c. It reads the
// password file and dials nothing.
func (c Config) Validate() error {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return err
	}
	calls, renewals, _, err := connect(c, &dialGate{})
	if err != nil {
		return err
	}
	return errors.Join(calls.Close(), renewals.Close())
}
