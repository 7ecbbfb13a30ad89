// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"io"
	"os/exec"
	"strings"
	"time"
)

// report tells of one attempt. Answer is what it said in the end, or how it ended when it said nothing.
type report struct {
	Try     string `json:"try"`
	Allowed bool   `json:"allowed"`
	Answer  string `json:"answer"`
}

// patience bounds one attempt: one that hangs must not keep the others from being made.
const patience = 30 * time.Second

// lines makes one attempt for each line of in, each in a process of its own, and writes a report of each as a line of JSON.
func lines(in io.Reader, out io.Writer) {
	enc := json.NewEncoder(out)
	for scan := bufio.NewScanner(in); scan.Scan(); {
		words := strings.Fields(scan.Text())
		if len(words) == 0 {
			continue
		}
		cmd := exec.Command("/proc/self/exe", words...)
		timer := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		text, err := cmd.Output()
		timer.Stop()
		answer := strings.TrimSpace(string(text))
		if at := strings.LastIndex(answer, "denied: "); at >= 0 {
			answer = answer[at:]
		} else if strings.HasSuffix(answer, "\nallowed") {
			answer = "allowed"
		}
		if answer == "" && err != nil {
			answer = err.Error()
		}
		fail(enc.Encode(report{Try: scan.Text(), Allowed: answer == "allowed", Answer: answer}))
	}
}
