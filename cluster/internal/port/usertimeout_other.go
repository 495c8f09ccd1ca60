//go:build !linux

package port

import "time"

func setSocketUserTimeout(int, time.Duration) {}
