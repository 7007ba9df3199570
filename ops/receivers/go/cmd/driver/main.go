// Command driver checks signatures by JSON lines, to hold this library to others: see the README.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"

	"authio.example/actions"
)

func main() {
	type line struct {
		Secrets []string `json:"secrets"`
		Header  *string  `json:"header"`
		Body    []byte   `json:"body_b64"`
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		var asked line
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			fmt.Fprintln(os.Stderr, "driver:", err)
			os.Exit(2)
		}
		valid := asked.Header != nil && actions.Verify(asked.Secrets, *asked.Header, asked.Body)
		fmt.Printf("{\"valid\":%t}\n", valid)
	}
	if err := lines.Err(); err != nil {
		fmt.Fprintln(os.Stderr, "driver:", err)
		os.Exit(2)
	}
}
