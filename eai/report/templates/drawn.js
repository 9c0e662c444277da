Error.stackTraceLimit = 10; // 0 while Plotly loads: the traces of the errors that it catches take as long as all else
draw();
document.documentElement.dataset.ready = Math.round(performance.now());
