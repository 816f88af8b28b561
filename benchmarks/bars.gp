# SPDX-License-Identifier: MIT
# gnuplot -c bars.gp bars.csv bars.svg
# Columns: panel, case, a contender each. A panel is drawn for each name in the first column.
csv = ARG1
output = ARG2
panels = system("tail -n +2 '".csv."' | cut -d, -f1 | uniq")
count = words(panels) > 0 ? words(panels) : 1
cases = int(system("tail -n +2 '".csv."' | cut -d, -f1 | uniq -c | sort -rn | head -n 1 | awk '{ print $1 }'"))
contenders = int(system("head -n 1 '".csv."' | tr -cd , | wc -c")) - 1
picture_width = 200 + cases * (contenders + 2) * (cases > 4 ? 7 : 25)
picture_height = count * (cases > 4 ? 380 : 400)
load system("dirname '".ARG0."'")."/../examples/training/style.gp"

array colours[9] = ["#d1495b", "#bbbbbb", "#888888", "#2e86ab", "#3a7d44", "#edae49", "#7b5ea7", "#66a182", "#5b3a29"]
set style data histogram
set style histogram clustered gap 2
set style fill solid noborder
set boxwidth 1
set ylabel "speed, memcpy = 1"
set yrange [0:*]
set key top center horizontal outside
if (cases > 4) { set xtics rotate by -40 left font ",10" }
set multiplot layout count, 1
do for [panel = 1:count] {
  name = words(panels) > 0 ? word(panels, panel) : ""
  rows = words(panels) > 0 ? "< awk -F, 'NR == 1 || $1 == \"".name."\"' '".csv."'" : csv
  set title name font ",15"
  plot for [i = 1:contenders] rows using (column(i + 2)):xtic(2) lc rgb colours[i] title columnheader(i + 2)
}
unset multiplot
